# SPDX-License-Identifier: Apache-2.0
"""read_board.py FOLDER: what TensorBoard's own code makes of a folder of event files, as JSON.

{"runs": {run: {tag: [[step, value], ...]}}, "raw": {run: records in the files}, "experiment": {…}, "groups": [...]}:
scalars as the event multiplexer serves them, the hparams plugin's experiment and session groups as its
backend answers them to the HPARAMS tab. Needs the environment `boards`.
"""
import json
import sys

from google.protobuf import json_format
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups
from tensorboard.util import tensor_util


def load(folder):
    m = plugin_event_multiplexer.EventMultiplexer(tensor_size_guidance={"scalars": 0})
    m.AddRunsFromDirectory(folder)
    m.Reload()
    return m


def scalars(m):
    runs = {}
    for run, tags in m.Runs().items():
        runs[run] = {}
        for tag in tags["tensors"]:
            if not tag.startswith("_hparams_/"):
                runs[run][tag] = [[e.step, float(tensor_util.make_ndarray(e.tensor_proto))] for e in m.Tensors(run, tag)]
    return runs


def hparams(m, folder):
    provider = data_provider.MultiplexerDataProvider(m, folder)
    context = backend_context.Context(base_plugin.TBContext(logdir=folder, data_provider=provider))
    request = RequestContext()
    metadata = context.hparams_metadata(request, "")
    found = context.hparams_from_data_provider(request, "", 0)
    experiment = get_experiment.Handler(request, context, "", api_pb2.GetExperimentRequest()).run()
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=1000,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING])
    for info in experiment.metric_infos:
        asked.col_params.add(metric=info.name)
    groups = list_session_groups.Handler(request, context, "", asked).run()
    del metadata, found
    return json_format.MessageToDict(experiment), json_format.MessageToDict(groups).get("sessionGroups", [])


def main():
    m = load(sys.argv[1])
    experiment, groups = hparams(m, sys.argv[1])
    json.dump({"runs": scalars(m), "experiment": experiment, "groups": groups}, sys.stdout)


if __name__ == "__main__":
    main()
