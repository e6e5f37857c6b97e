"""Run llama.cpp's own OpenAI-compatible server over a model file, on a loopback port, until stopped.

Usage: python -m tests.sdk.inference_server MODEL_PATH [chat|embedding]. Prints its address as the first line of
standard output once it answers.
"""

import signal
import sys

import xllamacpp


def main(model_path: str, kind: str) -> None:
    """Serve MODEL_PATH and wait for a signal."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model_path
    parameters.model_alias = {f"tiny-{kind}"}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = 1024
    parameters.n_parallel = 2
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_threads_http = 2
    parameters.warmup = False
    parameters.use_jinja = True
    if kind == "embedding":
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "chat")
