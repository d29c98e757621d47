"""Runs on Ray: one streaming Ray Data execution from shards to committed rows.

plan (driver) → read → decode → caption (vLLM actors) → embed (actors) → write → commit.
No stage waits for the one before it to end, and memory stays flat however large the archive is.

* `skytext.run.caption_plan`: check everything that is cheap to check, before any work.
* `skytext.run.caption_run`: do it, and prove it from the table.
* `skytext.run.preview`: show what a run would do.
* `skytext.run.image_vectors`: give the images vectors of their own, by a CLIP-like model.

Imports nothing here: a worker loads only the stage that it runs.
"""
