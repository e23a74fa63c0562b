"""The drill: the real program against a world that plants faults, scenario by scenario (`make drill`)."""
