"""The AWS settings of this process, resolved once for everything that speaks to S3."""
