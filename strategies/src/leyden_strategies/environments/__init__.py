"""Who started the processes of a run, read from the variables that launchers and schedulers set."""
