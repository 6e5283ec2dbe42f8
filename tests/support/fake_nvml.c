/* A stand-in for NVIDIA's libnvidia-ml.so.1, as far as the reader of the cards calls it. No GPU is touched.
 *
 * It does what a text file says, whose path is in DREAMSEED_FAKE_NVML, and which is read again at each call:
 * lines of `KEY VALUE`. Without a line a healthy card answers. -1 as a figure means "not supported".
 *   cards N            how many cards there are (2)
 *   init R             nvmlInit returns the NVML error R
 *   hang 1             every call on any card blocks for ever; I.hang 1: those on card I
 *   I.error R          every call on card I returns the NVML error R
 *   I.gone 1           card I is left out when NVML starts: the cards after it move up
 *   I.used B  I.total B  I.gpu PERCENT  I.power MILLIWATTS  I.limit MILLIWATTS  I.temperature C
 *   I.reasons BITS  I.ecc N  I.recovery N  I.pids PID,PID or none or -1
 *   I.least MILLIWATTS  the lowest limit it takes; I.fixed 1: it takes none. A limit that is set is appended here.
 *   events R           no set of events can be made: the NVML error R; I.events R: card I reports none
 *   I.xid CODE and I.xid_number N   card I reports CODE when N changes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, INSUFFICIENT_SIZE = 7, TIMEOUT = 10, MOST = 16 };
typedef int Return;
typedef unsigned long long u64;

/* Physical numbers of the cards that were there when NVML started. */
static int present[MOST], count = 0;
static long long reported[MOST];

static int text(const char *key, char *value, size_t size) {
    const char *path = getenv("DREAMSEED_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int found = 0;
    while (file && fgets(line, sizeof line, file)) {
        char name[64], rest[400];
        if (sscanf(line, "%63s %399s", name, rest) == 2 && strcmp(name, key) == 0) {
            snprintf(value, size, "%s", rest);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

static long long number(const char *key, long long otherwise) {
    char value[400];
    return text(key, value, sizeof value) ? atoll(value) : otherwise;
}

static long long of_card(int card, const char *name, long long otherwise) {
    char key[64];
    snprintf(key, sizeof key, "%d.%s", card, name);
    return number(key, otherwise);
}

/* Every call on a card passes here first. */
static Return touch(int card) {
    while (number("hang", 0) || of_card(card, "hang", 0)) usleep(1000000);
    return (Return)of_card(card, "error", SUCCESS);
}

static int card_of(void *handle) { return (int)(long)handle - 1; }

static Return figure(void *handle, const char *name, long long otherwise, long long *value) {
    Return error = touch(card_of(handle));
    if (error) return error;
    *value = of_card(card_of(handle), name, otherwise);
    return *value < 0 ? NOT_SUPPORTED : SUCCESS;
}

static Return small(void *handle, const char *name, long long otherwise, unsigned *value) {
    long long told;
    Return error = figure(handle, name, otherwise, &told);
    if (!error) *value = (unsigned)told;
    return error;
}

Return nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    Return error = (Return)number("init", SUCCESS);
    if (error) return error;
    count = 0;
    for (int card = 0; card < number("cards", 2) && card < MOST; card++)
        if (!of_card(card, "gone", 0)) present[count++] = card;
    return SUCCESS;
}
Return nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(Return error) { (void)error; return "an error of the fake NVML"; }
Return nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return SUCCESS; }
Return nvmlDeviceGetCount_v2(unsigned *n) { *n = (unsigned)count; return SUCCESS; }

Return nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if ((int)index >= count) return INVALID;
    *handle = (void *)(long)(present[index] + 1);
    return touch(present[index]);
}

Return nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size) {
    Return error = touch(card_of(handle));
    snprintf(uuid, size, "GPU-fake-%d", card_of(handle));
    return error;
}

Return nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    Return error = touch(card_of(handle));
    snprintf(name, size, "Fake GPU");
    return error;
}

typedef struct { unsigned gpu, memory; } Utilization;
Return nvmlDeviceGetUtilizationRates(void *handle, Utilization *told) {
    told->memory = 17;
    return small(handle, "gpu", 42, &told->gpu);
}

typedef struct { unsigned version; u64 total, reserved, free, used; } Memory2;
Return nvmlDeviceGetMemoryInfo_v2(void *handle, Memory2 *told) {
    long long used, total = of_card(card_of(handle), "total", 32LL << 30);
    Return error = figure(handle, "used", 3LL << 30, &used);
    if (error) return error;
    told->total = (u64)total;
    told->used = (u64)used;
    told->reserved = 0;
    told->free = (u64)(total - used);
    return SUCCESS;
}

Return nvmlDeviceGetPowerUsage(void *h, unsigned *v) { return small(h, "power", 250000, v); }
Return nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *v) { return small(h, "limit", 575000, v); }

Return nvmlDeviceGetPowerManagementLimit(void *h, unsigned *v) { return small(h, "limit", 575000, v); }

Return nvmlDeviceGetPowerManagementLimitConstraints(void *h, unsigned *least, unsigned *most) {
    *most = 575000;
    return small(h, "least", 400000, least);
}

Return nvmlDeviceSetPowerManagementLimit(void *handle, unsigned milliwatts) {
    int card = card_of(handle);
    Return error = touch(card);
    if (error) return error;
    if (of_card(card, "fixed", 0)) return NO_PERMISSION;
    FILE *file = fopen(getenv("DREAMSEED_FAKE_NVML"), "a");
    fprintf(file, "%d.limit %u\n", card, milliwatts);
    fclose(file);
    return SUCCESS;
}

Return nvmlDeviceGetTemperature(void *h, int s, unsigned *v) { (void)s; return small(h, "temperature", 61, v); }

Return nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *bits) {
    long long told;
    Return error = figure(handle, "reasons", 1, &told);
    if (!error) *bits = (u64)told;
    return error;
}

Return nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, u64 *n) {
    long long told;
    Return error = figure(handle, "ecc", 0, &told);
    (void)kind, (void)counter;
    if (!error) *n = (u64)told;
    return error;
}

typedef struct {
    unsigned fieldId, scopeId;
    long long timestamp, latency;
    unsigned valueType, nvmlReturn;
    union { unsigned ui; u64 ull; } value;
} FieldValue;
Return nvmlDeviceGetFieldValues(void *handle, int n, FieldValue *values) {
    for (int i = 0; i < n; i++) {
        long long told;
        values[i].nvmlReturn = (unsigned)figure(handle, "recovery", 0, &told);
        if (values[i].nvmlReturn == SUCCESS) values[i].value.ui = (unsigned)told;
    }
    return touch(card_of(handle));
}

typedef struct { unsigned pid; u64 used; unsigned gpu, compute; } Process;
Return nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *n, Process *processes) {
    char key[64], pids[400] = "none";
    unsigned room = *n;
    Return error = touch(card_of(handle));
    if (error) return error;
    snprintf(key, sizeof key, "%d.pids", card_of(handle));
    text(key, pids, sizeof pids);
    if (strcmp(pids, "-1") == 0) return NOT_SUPPORTED;
    *n = 0;
    if (strcmp(pids, "none") == 0) return SUCCESS;
    for (char *pid = strtok(pids, ","); pid; pid = strtok(NULL, ",")) {
        if (*n < room && processes) {
            memset(&processes[*n], 0, sizeof *processes);
            processes[*n].pid = (unsigned)atoi(pid);
        }
        (*n)++;
    }
    return *n > room ? INSUFFICIENT_SIZE : SUCCESS;
}
Return nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned *n, Process *processes) {
    (void)handle, (void)processes;
    *n = 0;
    return SUCCESS;
}

Return nvmlEventSetCreate(void **set) {
    for (int card = 0; card < MOST; card++) reported[card] = of_card(card, "xid_number", 0);
    *set = reported;
    return (Return)number("events", SUCCESS);
}
Return nvmlEventSetFree(void *set) { (void)set; return SUCCESS; }
Return nvmlDeviceRegisterEvents(void *handle, u64 types, void *set) {
    (void)types, (void)set;
    Return error = touch(card_of(handle));
    return error ? error : (Return)of_card(card_of(handle), "events", SUCCESS);
}

typedef struct { void *device; u64 type, data; unsigned gpu, compute; } EventData;
Return nvmlEventSetWait_v2(void *set, EventData *event, unsigned wait_ms) {
    (void)set;
    for (unsigned waited = 0; waited <= wait_ms; waited += 20, usleep(20000))
        for (int i = 0; i < count; i++) {
            long long now = of_card(present[i], "xid_number", 0);
            if (now == reported[present[i]]) continue;
            reported[present[i]] = now;
            memset(event, 0, sizeof *event);
            event->device = (void *)(long)(present[i] + 1);
            event->type = 8; /* nvmlEventTypeXidCriticalError */
            event->data = (u64)of_card(present[i], "xid", 0);
            return SUCCESS;
        }
    return TIMEOUT;
}
