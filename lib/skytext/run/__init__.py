"""Runs on Ray: one streaming Ray Data execution from shards to committed rows.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
All stages run at the same time. The memory use does not depend on the size of the archive.

* `skytext.run.plans.caption_plan`: make all cheap checks before any work starts.
* `skytext.run.caption_run`: execute a plan, and verify the result in the table.
* `skytext.run.plans.preview`: show the work that a run would do.
* `skytext.run.vector_run`: embed images, or embed descriptions with another model.

This package imports nothing, so that a worker loads only the stage that it runs.
"""
