"""Faults, had by real processes against a real Redis or Valkey and a DynamoDB over HTTP.

After every case: the accounting identity holds, no version is lost or counted twice, no verdict came from an
error, findings equal the planted truth (`world.World.settle`, `accounts`). `make faults` runs all of it and
prints the table; continuous integration runs the same with fewer kills, and faults that can be had together
together. What is proved elsewhere at less cost is not repeated here (… stands for the rest of a test's name):

case                                                proved here, and elsewhere
kill -9 of everything; AOF, snapshots               test_kills
the late batch of a reader that was killed          test_publisher: …its_late_batch_refused
a reader killed again and again                     test_publisher: …killed_again_and_again…
the entries of a validator that was killed          test_store: …takes_back_what_its_earlier_life_left
lost reply on every Redis command                   test_redis; test_store: …after_a_lost_reply…
two readers, one lease each                         test_readers; test_publisher: …share_the_shards…
a suspended reader                                  test_readers; test_publisher: …suspended_and_overtaken…
FLUSHALL                                            test_redis; test_publisher: …lost_its_state…
rolled-back Redis                                   test_kills; test_publisher: …went_back…
Redis at maxmemory drains                           test_redis; test_store: …full_server…drains
poison entry                                        test_redis; test_validator: …poison…
validators that die of reading, of one entry        test_deaths; test_suspects, test_quarantine
half-open sockets; SIGTERM in a stalled call        test_stalls; test_aws: …ends_at_the_read_timeout
split, rollover, late child, closed leaf            test_streams; test_stream
more than 100 shards                                test_streams; test_aws: …listed_in_pages
replay of a finished shard                          test_streams; test_stream: …a_tombstone_stays…
open parent with open child, odd graphs             core/test_lineage
records on the last page                            test_stream: …the_last_page_and_the_end_are_one_batch
trims in three forms                                test_streams; test_stream, test_publisher
iterator expiry                                     test_streams; test_stream, test_publisher
not read for a day                                  test_stream: …the_horizon_after_23_hours…
stream disabled and enabled, table deleted          test_streams; test_stream, test_publisher
throttle storm, answers cut at 16 MB                test_answers; test_aws
truncated, CRC, unknown tag, extra and absent keys,
duplicates, HTML 502                                test_answers; test_validator: test_no_error_is_a_verdict
credentials that expire                             test_answers; test_aws: …refused_credentials…
clock ± 10 min                                      test_items; test_stream: …creation_times_are_moved…
items of 400 KB, N and B keys                       test_items; test_validator, test_aws
a comparison: kill -9 of everything                 test_comparison; test_compare: …whatever_dies… (embedded)
… late count, suspects published twice              test_comparer: …died_in_the_middle…; test_compare_store
… throttled, cut, moved keys                        test_comparison; test_comparer
metrics directory full, file of length 0            test_metrics_files; test_metrics: …broken_slot_file…
"""
