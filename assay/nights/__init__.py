"""Two nights: the hot paths of a commit, timed, and the alarm when the next night is slower."""
