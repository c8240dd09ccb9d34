#!/bin/sh
# So that old cron lines go on: backup.py daily
exec worm-ingest backup "$@"
