"""What every test gets: no model hub, and nothing of the person who runs it."""

from __future__ import annotations

import os

# Before anything imports transformers, vLLM, Ray or boto3, which read these once; the processes
# that tests start inherit them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = "1"

# No test reaches the cluster or the account that the shell happens to name.
for _name in ("RAY_ADDRESS", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(_name, None)
