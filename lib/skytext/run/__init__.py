"""Runs on Ray. A run is one streaming execution of Ray Data, from shards to committed rows.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
All stages run at the same time. The memory use does not depend on the size of the archive.

* `skytext.run.plans.caption_plan`: make all cheap checks before any work starts.
* `skytext.run.caption_run`: execute a plan, and verify the result in the table.
* `skytext.run.plans.preview`: show the work that a run would do.
* `skytext.run.vector_run`: embed images, or embed descriptions with another model.

This ``__init__`` module imports no other module, so that a worker process loads only the modules of
the stage that it runs.
"""
