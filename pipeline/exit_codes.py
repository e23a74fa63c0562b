"""What a process ends with: every exit code, and what it says to whoever started the process.

Reads: nothing. Writes: nothing. `docs/configuration.md` shows the table.
"""

FINE = 0
#: The answer is "no". "I do not know" is never this one.
FAILED = 1
USAGE = 2
INCONCLUSIVE = 3
CONFIGURATION = 4
COULD_NOT_ASK = 5
#: EX_SOFTWARE of sysexits.h.
DEFECT = 70
#: EX_IOERR.
UNWRITTEN = 74
#: What a shell reports for SIGINT, and for SIGPIPE: the reader of the output went away (`findings | head`).
INTERRUPTED = 130
BROKEN_PIPE = 141

#: Codes after which starting again changes nothing.
HALTING = frozenset({USAGE, CONFIGURATION})

MEANINGS: dict[int, str] = {
    FINE: "all is well; or stopped by SIGTERM",
    FAILED: "mismatches are open, the books do not balance, or the gate fails",
    USAGE: "the command line is wrong, or a value in it",
    INCONCLUSIVE: "inconclusive: nothing has been judged yet (`status`, `findings`), too little for an "
    "answer (`gate`), one of many migrations that cannot be read, a key that is neither equal nor a finding "
    "(`findings --explain`), or not everything was compared (`compare`)",
    CONFIGURATION: "configuration, credentials, permissions, a wrong table, or what never answered at the "
    "start; `doctor` says which",
    COULD_NOT_ASK: "Redis or AWS cannot be asked now: nothing is said about the tables",
    DEFECT: "a defect of this program: please report the traceback",
    UNWRITTEN: "the answer could not be written to standard output, such as to a full disk",
    INTERRUPTED: "interrupted (Ctrl-C)",
    BROKEN_PIPE: "the reader of the output went away",
}
