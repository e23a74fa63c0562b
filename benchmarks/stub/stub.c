/* A stand-in for DynamoDB and DynamoDB Streams that costs far less CPU than any client of it.
 *
 * Reads: HTTP/1.1 on one free port of 127.0.0.1, keep-alive, a thread a connection. Writes: its port, one line on
 * standard output. Never: checks signatures, keeps state but for the instant of "Stub.Begin".
 *
 * Options: --parent PID (ends with it)  --shards N  --records N (in each shard, 0 = endless)  --item-bytes N
 *          --page-bytes N (0 = no limit)  --latency-us N (before every answer)
 *          --gated 1 (no record is there before Stub.Begin)  --rate N (records/s that then appear in each shard,
 *          0 = all at once)  --scan-items N (in each segment of a scan)  --reordered 1 (a scan shows attributes in
 *          the other order, whatever the table)  --lacks N (every Nth item is not in the table; 0 = all are)
 *          --apart N (a scan's keys are those of a segment N higher)  --collection 1 (every item has the partition
 *          key "one", and the key is its sort key)
 *          --dated 1 (answers say when they were made)
 *
 * Its world: record n of shard s is about the key "user#SSSSNNNNNN"; even ones are INSERTs, odd ones MODIFYs with
 * both images; each key is changed once. A read of any key returns the newest image that the stream shows, its
 * attributes in another order. A scan's segment holds 25,000 such items: of the table "bench" as the stream
 * shows them, of any other table with their attributes in that other order. Bodies are templates in which a few
 * digits are overwritten, nothing is held; answers carry x-amz-crc32 as those of AWS do. Unknown operations are
 * answered 400.
 */
#define _GNU_SOURCE
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PAGE_RECORDS 1000
#define KEY_DIGITS 10
#define SEQUENCE_DIGITS 10
#define SHARD_RECORDS 1000000
#define MAX_PATCHES 16
#define SCAN_PAGE_BYTES 1000000
/* In templates: where a key's digits, a sequence number's last digits and a creation time go. */
#define KEY "\1\1\1\1\1\1\1\1\1\1"
#define SEQUENCE "\2\2\2\2\2\2\2\2\2\2"
#define CREATED "\3\3\3\3\3\3\3\3\3\3\3\3\3\3"

static long shards = 8, records = 0, item_bytes = 400, page_bytes = 0, latency_us = 0, gated = 0, rate = 0;
static long scan_items = 25000, reordered = 0, lacks = 0, apart = 0, collection = 0, dated = 0;
static double begun = 0; /* Unix time of Stub.Begin */

typedef struct {
    char *text;
    size_t size;
    int patches, at[MAX_PATCHES];
    char kind[MAX_PATCHES];
} Template;

typedef struct {
    char *bytes;
    size_t size, room;
} Buffer;

/* --- time, checksum, text ---------------------------------------------------------------------------- */

static double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t crc_table[8][256];

static void crc_prepare(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[0][i] = c;
    }
    for (int t = 1; t < 8; t++)
        for (int i = 0; i < 256; i++)
            crc_table[t][i] = crc_table[0][crc_table[t - 1][i] & 255] ^ (crc_table[t - 1][i] >> 8);
}

/* CRC-32 as zlib computes it, eight bytes at a time (little endian). */
static uint32_t crc_update(uint32_t c, const char *p, size_t n) {
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        w ^= c;
        c = crc_table[7][w & 255] ^ crc_table[6][w >> 8 & 255] ^ crc_table[5][w >> 16 & 255] ^
            crc_table[4][w >> 24 & 255] ^ crc_table[3][w >> 32 & 255] ^ crc_table[2][w >> 40 & 255] ^
            crc_table[1][w >> 48 & 255] ^ crc_table[0][w >> 56];
    }
    while (n--) c = crc_table[0][(c ^ (unsigned char)*p++) & 255] ^ (c >> 8);
    return c;
}

static char *room_for(Buffer *b, size_t more) {
    if (b->size + more > b->room) {
        b->room = (b->size + more) * 2;
        b->bytes = realloc(b->bytes, b->room);
        if (!b->bytes) abort();
    }
    return b->bytes + b->size;
}

static void add(Buffer *b, const char *format, ...) {
    va_list arguments;
    char *to = room_for(b, 4096);
    va_start(arguments, format);
    b->size += vsnprintf(to, 4096, format, arguments);
    va_end(arguments);
}

static void write_digits(char *to, int digits, unsigned long value) {
    while (digits--) to[digits] = '0' + value % 10, value /= 10;
}

/* --- templates ---------------------------------------------------------------------------------------- */

static Template template_of(Buffer *b) {
    Template t = {b->bytes, b->size, 0, {0}, {0}};
    for (size_t i = 0; i < t.size; i++)
        if (t.text[i] < 4 && (i == 0 || t.text[i - 1] != t.text[i])) {
            if (t.patches == MAX_PATCHES) abort();
            t.at[t.patches] = (int)i;
            t.kind[t.patches++] = t.text[i];
        }
    return t;
}

/* What 2 KB items have more of: 17 attributes, among them numbers, sets, a list and a map. */
static void more_attributes(Buffer *b) {
    for (int i = 0; i < 6; i++) add(b, ",\"text_%d\":{\"S\":\"The quick brown fox jumps over the lazy dog %d\"}", i, i);
    for (int i = 0; i < 6; i++) add(b, ",\"amount_%d\":{\"N\":\"%d.%02d\"}", i, 1000 * i + 17, 11 * i + 1);
    add(b, ",\"labels\":{\"SS\":[\"alpha\",\"beta\",\"delta\",\"gamma\"]},\"scores\":{\"NS\":[\"1\",\"2.5\",\"30\"]}");
    add(b, ",\"lines\":{\"L\":[{\"S\":\"one\"},{\"N\":\"2\"},{\"M\":{\"sku\":{\"S\":\"A-17\"},\"count\":{\"N\":\"3\"}}}]}");
    add(b, ",\"raw\":{\"B\":\"AAECAwQFBgcICQoLDA0ODw==\"},\"deleted_at\":{\"NULL\":true}");
}

/* An item of about item_bytes of wire JSON, version 0 or 1. */
static void add_item(Buffer *b, int version, int otherwise) {
    size_t start = b->size;
    const char *name = "\"name\":{\"S\":\"Customer " KEY "\"},\"email\":{\"S\":\"customer." KEY "@example.com\"}";
    add(b, "{%s{\"S\":\"user#" KEY "\"},", collection ? "\"pk\":{\"S\":\"one\"},\"sk\":" : "\"pk\":");
    if (!otherwise) add(b, "%s,", name);
    add(b, "\"revision\":{\"N\":\"%d\"},\"balance\":{\"N\":\"1234.5\"},\"active\":{\"BOOL\":true},", version);
    add(b, "\"roles\":{\"SS\":[\"admin\",\"editor\"]},\"address\":{\"M\":{\"city\":{\"S\":\"Springfield\"},");
    add(b, "\"zip\":{\"S\":\"12345\"}}}");
    if (item_bytes >= 1500) more_attributes(b);
    if (otherwise) add(b, ",%s", name);
    add(b, ",\"note\":{\"S\":\"");
    for (int i = 0; b->size - start + 3 < (size_t)item_bytes; i++) add(b, "%c", 'a' + i % 26);
    add(b, "\"}}");
}

static Template record_template(int modify) {
    Buffer b = {0};
    add(&b, "{\"awsRegion\":\"us-east-1\",\"dynamodb\":{\"ApproximateCreationDateTime\":" CREATED ",");
    add(&b, "\"Keys\":{\"pk\":{\"S\":\"user#" KEY "\"}},\"NewImage\":");
    add_item(&b, 1, 0);
    if (modify) {
        add(&b, ",\"OldImage\":");
        add_item(&b, 0, 0);
    }
    add(&b, ",\"SequenceNumber\":\"10000000000000" SEQUENCE "\",\"SizeBytes\":%ld,", item_bytes);
    add(&b, "\"StreamViewType\":\"NEW_AND_OLD_IMAGES\"},\"eventID\":\"f07f8ca4b0b26cb9c4e5e77e69f274ee\",");
    add(&b, "\"eventName\":\"%s\",\"eventSource\":\"aws:dynamodb\",\"eventVersion\":\"1.1\"},",
        modify ? "MODIFY" : "INSERT");
    return template_of(&b);
}

static Template insert_record, modify_record, item, item_in_order;

static void prepare_templates(void) {
    Buffer b = {0};
    insert_record = record_template(0);
    modify_record = record_template(1);
    add_item(&b, 1, 1);
    add(&b, ",");
    item = template_of(&b);
    Buffer c = {0};
    add_item(&c, 1, 0);
    add(&c, ",");
    item_in_order = template_of(&c);
}

static void add_patched(Buffer *b, const Template *t, const char *key, unsigned long sequence, const char *created) {
    char *to = room_for(b, t->size);
    memcpy(to, t->text, t->size);
    for (int i = 0; i < t->patches; i++) {
        if (t->kind[i] == 1) memcpy(to + t->at[i], key, KEY_DIGITS);
        else if (t->kind[i] == 2) write_digits(to + t->at[i], SEQUENCE_DIGITS, sequence);
        else memcpy(to + t->at[i], created, strlen(CREATED));
    }
    b->size += t->size;
}

/* --- operations: each adds its body to `out`, from the request's body ---------------------------------- */

static long number_after(const char *text, const char *mark, long otherwise) {
    const char *at = strstr(text, mark);
    return at ? strtol(at + strlen(mark), 0, 10) : otherwise;
}

/* How many records each shard holds by now. */
static long available(void) {
    if (gated && !begun) return 0;
    if (!rate) return records ? records : SHARD_RECORDS;
    long there = (long)((now_seconds() - begun) * rate);
    return records && there > records ? records : there;
}

/* As AWS tells it: floored to whole seconds. */
static double created_at(long n) {
    return floor(rate ? begun + (double)n / rate : now_seconds() - 1);
}

static void get_records(Buffer *out, const char *body) {
    long shard = number_after(body, "\"it-", 0), n = number_after(body, "-at-", 0);
    long limit = number_after(body, "\"Limit\":", 0);
    if (!limit) limit = number_after(body, "\"Limit\": ", PAGE_RECORDS);
    long end = n + (limit < PAGE_RECORDS ? limit : PAGE_RECORDS), there = available();
    if (end > there) end = there;
    add(out, "{\"Records\":[");
    size_t start = out->size;
    char created[32];
    for (; n < end && (!page_bytes || out->size - start < (size_t)page_bytes); n++) {
        char key[KEY_DIGITS];
        write_digits(key, 4, shard);
        write_digits(key + 4, 6, n % SHARD_RECORDS);
        if (out->size == start || rate) snprintf(created, sizeof created, "%.3f", created_at(n));
        add_patched(out, n % 2 ? &modify_record : &insert_record, key, n, created);
    }
    if (out->size > start) out->size--; /* the last comma */
    if (!records && n >= SHARD_RECORDS) n = 0; /* endless: the same keys again */
    add(out, "],\"NextShardIterator\":\"it-%ld-at-%ld-AAAAAAAAAAGlfzWXp6ivTkFeLWAjmkPQ\"}", shard, n);
}

static void get_shard_iterator(Buffer *out, const char *body) {
    long shard = number_after(body, "shardId-", 0), n = 0;
    const char *sequence = strstr(body, "SequenceNumber\": \"10000000000000");
    if (!sequence) sequence = strstr(body, "SequenceNumber\":\"10000000000000");
    if (sequence) n = strtol(strstr(sequence, "10000000000000") + 14, 0, 10) + (strstr(body, "\"AFTER") != 0);
    else if (strstr(body, "\"LATEST\"")) n = available();
    add(out, "{\"ShardIterator\":\"it-%ld-at-%ld-AAAAAAAAAAGlfzWXp6ivTkFeLWAjmkPQ\"}", shard, n);
}

/* Every table whose name begins with "bench" is there, and all hold the same. */
#define NAME_BYTES 64
static const char *table_of(const char *body, char *name) {
    const char *at = strstr(body, "bench");
    if (!at) at = "bench";
    snprintf(name, NAME_BYTES, "%.*s", (int)strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789-"), at);
    return name;
}

static void describe_stream(Buffer *out, const char *body) {
    char name[NAME_BYTES];
    table_of(body, name);
    const char *after = strstr(body, "ExclusiveStartShardId");
    long first = after ? number_after(after, "shardId-", 0) + 1 : 0, last = first + 100 < shards ? first + 100 : shards;
    add(out, "{\"StreamDescription\":{\"StreamArn\":\"arn:aws:dynamodb:us-east-1:123456789012:table/%s/stream/"
             "2026-01-01T00:00:00.000\",\"StreamLabel\":\"2026-01-01T00:00:00.000\",\"StreamStatus\":\"ENABLED\","
             "\"StreamViewType\":\"NEW_AND_OLD_IMAGES\",\"TableName\":\"%s\",\"Shards\":[", name, name);
    for (long s = first; s < last; s++)
        add(out, "%s{\"ShardId\":\"shardId-%020ld-aabbccdd\",\"SequenceNumberRange\":{\"StartingSequenceNumber\":"
                 "\"100000000000000000000000\"}}", s > first ? "," : "", s);
    add(out, "]");
    if (last < shards) add(out, ",\"LastEvaluatedShardId\":\"shardId-%020ld-aabbccdd\"", last - 1);
    add(out, "}}");
}

static void list_streams(Buffer *out, const char *body) {
    char name[NAME_BYTES];
    table_of(body, name);
    add(out, "{\"Streams\":[{\"StreamArn\":\"arn:aws:dynamodb:us-east-1:123456789012:table/%s/stream/"
             "2026-01-01T00:00:00.000\",\"TableName\":\"%s\",\"StreamLabel\":\"2026-01-01T00:00:00.000\"}]}",
        name, name);
}

static void describe_table(Buffer *out, const char *body) {
    char name[NAME_BYTES];
    table_of(body, name);
    add(out, "{\"Table\":{\"TableName\":\"%s\",\"TableArn\":\"arn:aws:dynamodb:us-east-1:123456789012:table/%s\","
             "\"TableStatus\":\"ACTIVE\",\"ItemCount\":1000000,\"TableSizeBytes\":400000000,"
             "\"KeySchema\":[{\"AttributeName\":\"pk\",\"KeyType\":\"HASH\"}%s],"
             "\"AttributeDefinitions\":[{\"AttributeName\":\"pk\",\"AttributeType\":\"S\"}%s],"
             "\"StreamSpecification\":{\"StreamEnabled\":true,\"StreamViewType\":\"NEW_AND_OLD_IMAGES\"},"
             "\"LatestStreamArn\":\"arn:aws:dynamodb:us-east-1:123456789012:table/%s/stream/"
             "2026-01-01T00:00:00.000\"}}",
        name, name, collection ? ",{\"AttributeName\":\"sk\",\"KeyType\":\"RANGE\"}" : "",
        collection ? ",{\"AttributeName\":\"sk\",\"AttributeType\":\"S\"}" : "", name);
}

static void describe_time_to_live(Buffer *out, const char *body) {
    (void)body;
    add(out, "{\"TimeToLiveDescription\":{\"TimeToLiveStatus\":\"DISABLED\"}}");
}

static void get_item(Buffer *out, const char *body) {
    const char *at = strstr(body, "user#");
    add(out, "{\"Item\":");
    add_patched(out, &item, at ? at + 5 : "0000000000", 0, "");
    out->size--;
    add(out, "}");
}

static void batch_get_item(Buffer *out, const char *body) {
    char name[NAME_BYTES];
    long keys = 0;
    add(out, "{\"Responses\":{\"%s\":[", table_of(body, name));
    for (const char *at = body; (at = strstr(at, "user#")); at += 5 + KEY_DIGITS, keys++)
        add_patched(out, &item, at + 5, 0, "");
    if (keys) out->size--;
    add(out, "]},\"UnprocessedKeys\":{},\"ConsumedCapacity\":[{\"TableName\":\"%s\",\"CapacityUnits\":%.1f}]}", name,
        keys * 0.5);
}

static void scan(Buffer *out, const char *body) {
    const Template *shown = !reordered && strstr(body, "\"bench\"") ? &item_in_order : &item;
    long segment = number_after(body, "\"Segment\":", 0) + apart, n = 0, shows = 0;
    const char *after = strstr(body, "ExclusiveStartKey"), *key = after ? strstr(after, "user#") : 0;
    char digits[KEY_DIGITS];
    size_t most = page_bytes ? page_bytes : SCAN_PAGE_BYTES;
    if (key) n = strtol(key + 5 + 4, 0, 10) + 1;
    write_digits(digits, 4, segment);
    add(out, "{\"Items\":[");
    for (size_t start = out->size; n < scan_items && out->size - start < most; n++) {
        write_digits(digits + 4, 6, n);
        if (lacks && n % lacks == 0) continue;
        add_patched(out, shown, digits, 0, "");
        shows++;
    }
    if (shows) out->size--; /* the last comma */
    add(out, "],\"Count\":%ld,\"ScannedCount\":%ld", shows, shows);
    if (n < scan_items)
        add(out, ",\"LastEvaluatedKey\":{%s\"%s\":{\"S\":\"user#%.10s\"}}",
            collection ? "\"pk\":{\"S\":\"one\"}," : "", collection ? "sk" : "pk", digits);
    add(out, ",\"ConsumedCapacity\":{\"TableName\":\"bench\",\"CapacityUnits\":128.0}}");
}

static void begin(Buffer *out, const char *body) {
    (void)body;
    begun = now_seconds();
    add(out, "{\"begun\":%.6f}", begun);
}

static const struct {
    const char *target;
    void (*answer)(Buffer *, const char *);
    int delayed;
} operations[] = {
    {"GetRecords", get_records, 1},         {"BatchGetItem", batch_get_item, 1},
    {"GetItem", get_item, 1},               {"GetShardIterator", get_shard_iterator, 1},
    {"DescribeStream", describe_stream, 1}, {"ListStreams", list_streams, 1},
    {"DescribeTable", describe_table, 1},   {"DescribeTimeToLive", describe_time_to_live, 1},
    {"Scan", scan, 1},                      {"Begin", begin, 0},
};

/* --- HTTP ---------------------------------------------------------------------------------------------- */

static int send_all(int socket, struct iovec *parts, int count) {
    while (count) {
        ssize_t sent = writev(socket, parts, count);
        if (sent < 0) return -1;
        while (count && (size_t)sent >= parts->iov_len) sent -= parts->iov_len, parts++, count--;
        if (count) parts->iov_base = (char *)parts->iov_base + sent, parts->iov_len -= sent;
    }
    return 0;
}

static int respond(int socket, Buffer *out, const char *head_end, char *request, const char *body) {
    char head[512], *target = strcasestr(request, "X-Amz-Target: ");
    int status = 400, size;
    size_t i;
    out->size = 0;
    target = target && target < head_end ? strchr(target, '.') : 0;
    for (i = 0; target && i < sizeof operations / sizeof *operations; i++) {
        size_t length = strlen(operations[i].target);
        if (strncmp(target + 1, operations[i].target, length) == 0 && target[1 + length] <= ' ') {
            if (operations[i].delayed && latency_us) usleep(latency_us);
            operations[i].answer(out, body);
            status = 200;
            break;
        }
    }
    if (status != 200) add(out, "{\"__type\":\"com.amazon.coral.service#UnknownOperationException\"}");
    uint32_t crc = crc_update(0xFFFFFFFFu, out->bytes, out->size) ^ 0xFFFFFFFFu;
    char date[64] = "";
    if (dated) {
        time_t now = time(0);
        struct tm utc;
        strftime(date, sizeof date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", gmtime_r(&now, &utc));
    }
    size = snprintf(head, sizeof head,
                    "HTTP/1.1 %d %s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %zu\r\n"
                    "x-amz-crc32: %u\r\nx-amzn-RequestId: 4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG\r\n"
                    "%sConnection: keep-alive\r\n\r\n",
                    status, status == 200 ? "OK" : "Bad Request", out->size, crc, date);
    struct iovec parts[2] = {{head, size}, {out->bytes, out->size}};
    return send_all(socket, parts, 2);
}

/* Reads requests from one connection until it closes. */
static void *serve(void *argument) {
    int socket = (int)(intptr_t)argument;
    Buffer in = {0}, out = {0};
    room_for(&in, 65536);
    for (;;) {
        char *end = 0;
        size_t head_size = 0, wanted = 0;
        while (!end || in.size < wanted) {
            ssize_t got = read(socket, room_for(&in, 65536), 65535);
            if (got <= 0) goto closed;
            in.size += got;
            in.bytes[in.size] = 0;
            if (!end && (end = strstr(in.bytes, "\r\n\r\n"))) {
                char *length = strcasestr(in.bytes, "Content-Length: ");
                head_size = end + 4 - in.bytes;
                wanted = head_size + (length && length < end ? strtoul(length + 16, 0, 10) : 0);
            }
            end = end ? in.bytes + head_size - 4 : 0; /* the buffer may have moved */
        }
        if (respond(socket, &out, end, in.bytes, in.bytes + head_size) < 0) break;
        in.size = 0;
    }
closed:
    close(socket);
    free(in.bytes);
    free(out.bytes);
    return 0;
}

static void read_options(int count, char **words) {
    struct { const char *name; long *value; } known[] = {
        {"--shards", &shards},         {"--records", &records},       {"--item-bytes", &item_bytes},
        {"--page-bytes", &page_bytes}, {"--latency-us", &latency_us}, {"--rate", &rate},
        {"--gated", &gated},           {"--scan-items", &scan_items}, {"--reordered", &reordered},
        {"--lacks", &lacks},           {"--apart", &apart},           {"--collection", &collection},
        {"--dated", &dated},
    };
    for (int i = 1; i + 1 < count; i += 2) {
        long value = atol(words[i + 1]);
        if (strcmp(words[i], "--parent") == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != value) exit(1); /* it died before we asked */
        }
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (strcmp(words[i], known[k].name) == 0) *known[k].value = value;
    }
}

int main(int count, char **words) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof here;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    read_options(count, words);
    signal(SIGPIPE, SIG_IGN);
    crc_prepare();
    prepare_templates();
    if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 1024)) return perror("listen"), 1;
    getsockname(listener, (struct sockaddr *)&here, &size);
    printf("%d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;) {
        pthread_t thread;
        int connection = accept(listener, 0, 0);
        if (connection < 0) continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, 0, serve, (void *)(intptr_t)connection)) return perror("thread"), 1;
        pthread_detach(thread);
    }
}
