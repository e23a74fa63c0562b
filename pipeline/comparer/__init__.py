"""The comparer: reads segments of both tables, joins them, hands over what differs."""
