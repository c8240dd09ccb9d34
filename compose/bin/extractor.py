#!/bin/sh
# So that old cron lines go on: extractor.py once
exec worm-extractor "$@"
