"""The store: everything that processes share, in Redis or Valkey. Others import from here.

    FiguresView      numbers and findings, also before the migration has begun: the monitor
    StoreView        a migration that has begun, read only: the commands that look
    ReaderStore      what a reader writes        ValidatorStore   what a validator writes
    KeyView          the same of one key     MarkStore        what `mark` writes
    CompareStore     what a comparer writes
    SampleStore      what the monitor writes: samples of its figures

All of a migration is in the keys `ddbmm:{<migration>}:…` (one hash slot, so one migration lives on one node
of a cluster):

    work            stream + group "validators": one entry a key that is due now
    due             sorted set: key → when to look next (ms)
    history         hash: key → history (codec.py)
    checkpoints     hash: partition → checkpoint          leases        hash: partition → epoch|expires|owner
    watermarks      hash: partition → watermark (ms)      readers       sorted set: reader → alive until (ms)
    ledger          hash: counters                        late          hash: creation bucket → keys waiting
    lag:<minute>    hash: bucket → count                  gaps          hash: gap → recorded|window|closed
    findings        hash: key → JSON                      findings-since  sorted set: key → opened (ms)
    findings-log    stream of closed findings             dead          stream of dead letters
    keys-sampled, keys-judged  HyperLogLog                meta          hash: settings, secret, watermark, …
    cost, cost:<minute>  hash: what AWS was asked, in all and of a minute
    clock           hash: distance of the state's clock from TIME (ms), steps of TIME
    samples         hash: tier and bucket → figures of that time
    marks           hash: milestone of the cutover → when it was reached (ms)
    tables          hash: side → id of the table whose items are judged
    trials        hash: entry of `work` → how often it was tried alone
    comparison      hash: settings and counts of the latest comparison
    comparison-leases  hash: ordinal of a partition → epoch|expires|owner
    comparison-read    bitmap: partition n of the comparison is read and counted
    comparison-sorted  hash: ordinal of a partition that was sorted into buckets → epoch of what counts
    comparison-of-table  hash: the latest comparison of the table, while `comparison` is one of changes
"""

from pipeline.store.beginning import begin, check_server, check_settings, load
from pipeline.store.begun import begun_migrations
from pipeline.store.clock import AwsClocks
from pipeline.store.compare_store import CompareStore
from pipeline.store.connection import RedisConnection
from pipeline.store.figures_view import FiguresView
from pipeline.store.key_view import KeyView
from pipeline.store.locating import Pools
from pipeline.store.marking import MarkStore
from pipeline.store.outage import Outage, once_served
from pipeline.store.permissions import Role, check_permissions
from pipeline.store.reader_store import ReaderStore
from pipeline.store.reading import StoreView
from pipeline.store.role_store import RoleStore
from pipeline.store.sampling import SampleStore
from pipeline.store.validator_store import ValidatorStore

__all__ = [
    "AwsClocks",
    "CompareStore",
    "FiguresView",
    "KeyView",
    "MarkStore",
    "Outage",
    "Pools",
    "ReaderStore",
    "RedisConnection",
    "Role",
    "RoleStore",
    "SampleStore",
    "StoreView",
    "ValidatorStore",
    "begin",
    "begun_migrations",
    "check_permissions",
    "check_server",
    "check_settings",
    "load",
    "once_served",
]
