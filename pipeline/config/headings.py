"""The commands, and the headings that options stand below.

Reads: nothing. Writes: nothing. Never: the environment, files.
"""

#: The word before the options, and what it does; `run` when there is none.
COMMANDS = {
    "run": "watch the migration on this host: reader, validators and monitor (the default)",
    "reader": "only read the stream (one process of several hosts)",
    "validator": "only validate what readers queued",
    "comparer": "only compare: join a comparison (one process of several hosts)",
    "monitor": "only print statistics and export the ledger's metrics",
    "compare": "compare the whole tables, once, alone on this host or beside a run",
    "status": "show where the migration stands",
    "findings": "list the open findings",
    "report": "the whole story on one page, to be signed and kept: HTML, text or JSON",
    "gate": "may we switch over? Every check with its reason",
    "plan": "which sample finds which defect, what it costs, how long it takes; nothing is read",
    "mark": "note that a milestone of the cutover, T0 … T4, is reached now",
    "doctor": "check access, tables, stream, Redis and clock before a run",
    "config": "show the effective value of every option, and where it came from",
    "demo": "watch a made-up migration with planted faults, on embedded servers",
    "datagen": "write test items into a table",
    "datadel": "delete the test items that datagen wrote",
}

#: Headings of the help and of docs/configuration.md, in their order.
TABLES, STREAM, JUDGING, STATE = "Tables and access", "Stream", "Judging", "State"
PACE, GATE, OUTPUT = "Pace", "Gate (`gate` and the monitor's metrics)", "Output"
FINDINGS = "Findings (`findings`)"
PLAN = "Plan (`plan`)"
REPORT = "Report (`report`)"
COMPARING = "Comparison (`compare`, `comparer`)"
COST = "Cost"
HEADINGS = (TABLES, STREAM, JUDGING, STATE, PACE, COST, COMPARING, GATE, FINDINGS, PLAN, REPORT, OUTPUT)
