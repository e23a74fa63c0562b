"""The judging rule: data in `history`, what a look proves in `matching`, decisions in `rule`."""
