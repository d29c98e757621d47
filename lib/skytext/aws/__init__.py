"""The S3 access of each process, with the AWS credentials and settings of its environment."""
