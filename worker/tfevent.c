/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/tfevent.h"

#include "base/protobuf.h"
#include "base/tfrecord.h"

#include <math.h>
#include <string.h>

#define SESSION_LOG_START 1
#define DATA_STRING 1 /* DataType of api.proto */
#define DATA_FLOAT64 3
#define DT_FLOAT 1 /* of types.proto */

/* ---- the event around it ---- */

static void begin(struct buf *event, double wall, int64_t step)
{
    pb_double(event, 1, wall);
    if (step != 0) {
        pb_int(event, 2, step);
    }
}

static void end(struct buf *out, struct buf *event_take)
{
    tfrecord_add(out, event_take->data, event_take->len);
    buf_fini(event_take);
}

void tfevent_version(struct buf *out, double wall)
{
    struct buf event = {0};
    begin(&event, wall, 0);
    pb_text(&event, 3, "brain.Event:2");
    end(out, &event);
}

void tfevent_restart(struct buf *out, double wall, int64_t step)
{
    struct buf event = {0};
    struct buf log = {0};
    pb_int(&log, 1, SESSION_LOG_START);
    begin(&event, wall, step);
    pb_message(&event, 7, &log);
    end(out, &event);
}

/* ---- scalars ---- */

static void add_scalar(struct buf *summary, const char *tag, double v)
{
    struct buf value = {0};
    pb_text(&value, 1, tag);
    pb_float(&value, 2, (float)v);
    pb_message(summary, 1, &value);
}

void tfevent_scalars(struct buf *out, double wall, int64_t step, const json_t *metrics)
{
    struct buf event = {0};
    struct buf summary = {0};
    const char *name = NULL;
    json_t *v = NULL;
    begin(&event, wall, step);
    json_object_foreach((json_t *)(uintptr_t)metrics, name, v)
    {
        add_scalar(&summary, name, json_is_number(v) ? json_number_value(v) : (double)NAN);
    }
    pb_message(&event, 5, &summary);
    end(out, &event);
}

/* ---- the hparams plugin ---- */

/* Its data stand in the metadata of a summary whose value means nothing, but must be there. */
static void add_plugin_data(struct buf *out, double wall, const char *tag, struct buf *data_take)
{
    struct buf plugin = {0};
    struct buf metadata = {0};
    struct buf value = {0};
    struct buf tensor = {0};
    struct buf shape = {0};
    struct buf summary = {0};
    struct buf event = {0};
    pb_text(&plugin, 1, "hparams");
    pb_message(&plugin, 2, data_take);
    pb_message(&metadata, 1, &plugin);
    pb_int(&tensor, 1, DT_FLOAT);
    pb_message(&tensor, 2, &shape);
    pb_float(&tensor, 5, 0);
    pb_text(&value, 1, tag);
    pb_message(&value, 8, &tensor);
    pb_message(&value, 9, &metadata);
    pb_message(&summary, 1, &value);
    begin(&event, wall, 0);
    pb_message(&event, 5, &summary);
    end(out, &event);
}

/* google.protobuf.Value */
static void make_value(struct buf *b, const json_t *v)
{
    if (json_is_number(v)) {
        pb_double(b, 2, json_number_value(v));
    } else if (json_is_boolean(v)) {
        pb_int(b, 4, json_is_true(v));
    } else {
        pb_text(b, 3, json_is_string(v) ? json_string_value(v) : "");
    }
}

static void add_value(struct buf *b, int field, const json_t *v)
{
    struct buf value = {0};
    make_value(&value, v);
    pb_message(b, field, &value);
}

void tfevent_session_start(struct buf *out, double wall, const json_t *params, const char *group)
{
    struct buf info = {0};
    struct buf data = {0};
    const char *name = NULL;
    json_t *v = NULL;
    json_object_foreach((json_t *)(uintptr_t)params, name, v)
    {
        struct buf entry = {0};
        pb_text(&entry, 1, name);
        add_value(&entry, 2, v);
        pb_message(&info, 1, &entry);
    }
    pb_text(&info, 4, group);
    pb_double(&info, 5, wall);
    pb_message(&data, 3, &info);
    add_plugin_data(out, wall, "_hparams_/session_start_info", &data);
}

void tfevent_session_end(struct buf *out, double wall, enum tfevent_status status)
{
    struct buf info = {0};
    struct buf data = {0};
    pb_int(&info, 1, status);
    pb_double(&info, 2, wall);
    pb_message(&data, 4, &info);
    add_plugin_data(out, wall, "_hparams_/session_end_info", &data);
}

static void add_domain(struct buf *info, const json_t *values, const json_t *range)
{
    struct buf domain = {0};
    size_t i = 0;
    const json_t *v = NULL;
    if (values != NULL) {
        json_array_foreach(values, i, v)
        {
            add_value(&domain, 1, v);
        }
        pb_message(info, 5, &domain);
    } else if (json_array_size(range) == 2) {
        pb_double(&domain, 1, json_number_value(json_array_get(range, 0)));
        pb_double(&domain, 2, json_number_value(json_array_get(range, 1)));
        pb_message(info, 6, &domain);
    }
}

void tfevent_experiment(struct buf *out, double wall, const char *name, const json_t *space,
                        const json_t *metrics)
{
    struct buf experiment = {0};
    struct buf data = {0};
    const char *param = NULL;
    json_t *p = NULL;
    pb_text(&experiment, 6, name);
    pb_double(&experiment, 3, wall);
    json_object_foreach((json_t *)(uintptr_t)space, param, p)
    {
        struct buf info = {0};
        const json_t *values = json_object_get(p, "values");
        pb_text(&info, 1, param);
        pb_int(&info, 4, json_is_string(json_array_get(values, 0)) ? DATA_STRING : DATA_FLOAT64);
        add_domain(&info, values, json_object_get(p, "range"));
        pb_int(&info, 7, json_array_size(values) != 1); /* it differs between trials: show it */
        pb_message(&experiment, 4, &info);
    }
    size_t i = 0;
    json_array_foreach(metrics, i, p)
    {
        struct buf metric = {0};
        struct buf info = {0};
        pb_text(&metric, 2, json_string_value(p));
        pb_message(&info, 1, &metric);
        pb_message(&experiment, 5, &info);
    }
    pb_message(&data, 2, &experiment);
    add_plugin_data(out, wall, "_hparams_/experiment", &data);
}
