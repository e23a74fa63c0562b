"""What people read: statistics, status, findings, gate, as text and as JSON."""
