"""Runs on Ray: one streaming Ray Data execution from shards to committed rows.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
Stages run at the same time, and memory use does not depend on the size of the archive.

* `skytext.run.caption_plan`: make all cheap checks before any work.
* `skytext.run.caption_run`: run a plan, and prove the result from the table.
* `skytext.run.preview`: show the work of a run.
* `skytext.run.vector_run`: embed images, or embed descriptions with another model.

Nothing is imported here: a worker loads only the stage that it runs.
"""
