"""The pages made of results: the static site (`site`) and the Markdown scoreboard (`scoreboard`)."""
