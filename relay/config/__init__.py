"""Settings: ``conf/postern.yaml`` read into frozen models, with every fault told at once by file and line."""
