"""The operators of the job, one a file. The only modules, with the pipeline, that know Ray."""
