"""What looks once: status, findings, gate and mark (inspect), doctor, and the checks before a start."""
