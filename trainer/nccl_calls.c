/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer/nccl_calls.h"

#include "base/log.h"

#include <dlfcn.h>
#include <stddef.h>

#define LIBRARY "libnccl.so.2"

/* The calls that are made of it, and each as a function of the same name and type. */
enum call {
    GET_VERSION,
    GET_ERROR_STRING,
    GET_LAST_ERROR,
    GET_UNIQUE_ID,
    COMM_INIT_RANK_CONFIG,
    COMM_GET_ASYNC_ERROR,
    COMM_FINALIZE,
    COMM_DESTROY,
    COMM_ABORT,
    GROUP_START,
    GROUP_END,
    ALL_REDUCE,
    CALLS
};

static const char *const names[CALLS] = {
    [GET_VERSION] = "ncclGetVersion",
    [GET_ERROR_STRING] = "ncclGetErrorString",
    [GET_LAST_ERROR] = "ncclGetLastError",
    [GET_UNIQUE_ID] = "ncclGetUniqueId",
    [COMM_INIT_RANK_CONFIG] = "ncclCommInitRankConfig",
    [COMM_GET_ASYNC_ERROR] = "ncclCommGetAsyncError",
    [COMM_FINALIZE] = "ncclCommFinalize",
    [COMM_DESTROY] = "ncclCommDestroy",
    [COMM_ABORT] = "ncclCommAbort",
    [GROUP_START] = "ncclGroupStart",
    [GROUP_END] = "ncclGroupEnd",
    [ALL_REDUCE] = "ncclAllReduce",
};

static void *calls[CALLS];

bool nccl_load(void)
{
    static void *library;
    if (library != NULL) {
        return true;
    }
    void *opened = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (opened == NULL) {
        log_warn("trainer", "no-nccl", "reason=%s", log_quote(dlerror()));
        return false;
    }
    for (int i = 0; i < CALLS; i++) {
        calls[i] = dlsym(opened, names[i]);
        if (calls[i] == NULL) {
            log_warn("trainer", "no-nccl", "reason=\"" LIBRARY " lacks %s\"", names[i]);
            (void)dlclose(opened);
            return false;
        }
    }
    library = opened; /* for good: its threads may outlive a communicator */
    return true;
}

#define FORWARD(type, name, which, params, args)                                                   \
    type name params                                                                               \
    {                                                                                              \
        return ((type(*) params)calls[which])args;                                                 \
    }

FORWARD(ncclResult_t, ncclGetVersion, GET_VERSION, (int *version), (version))
FORWARD(const char *, ncclGetErrorString, GET_ERROR_STRING, (ncclResult_t result), (result))
FORWARD(const char *, ncclGetLastError, GET_LAST_ERROR, (ncclComm_t comm), (comm))
FORWARD(ncclResult_t, ncclGetUniqueId, GET_UNIQUE_ID, (ncclUniqueId * id), (id))
FORWARD(ncclResult_t, ncclCommInitRankConfig, COMM_INIT_RANK_CONFIG,
        (ncclComm_t * comm, int size, ncclUniqueId id, int rank, ncclConfig_t *config),
        (comm, size, id, rank, config))
FORWARD(ncclResult_t, ncclCommGetAsyncError, COMM_GET_ASYNC_ERROR,
        (ncclComm_t comm, ncclResult_t *state), (comm, state))
FORWARD(ncclResult_t, ncclCommFinalize, COMM_FINALIZE, (ncclComm_t comm), (comm))
FORWARD(ncclResult_t, ncclCommDestroy, COMM_DESTROY, (ncclComm_t comm), (comm))
FORWARD(ncclResult_t, ncclCommAbort, COMM_ABORT, (ncclComm_t comm), (comm))
FORWARD(ncclResult_t, ncclGroupStart, GROUP_START, (void), ())
FORWARD(ncclResult_t, ncclGroupEnd, GROUP_END, (void), ())
FORWARD(ncclResult_t, ncclAllReduce, ALL_REDUCE,
        (const void *from, void *to, size_t n, ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
         cudaStream_t stream),
        (from, to, n, type, op, comm, stream))
