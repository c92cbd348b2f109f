worker_processes 4
preload_app true
# A worker whose master was killed alone notices within this time.
timeout 10
