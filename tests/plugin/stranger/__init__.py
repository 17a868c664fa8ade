"""One of each: a method, a judge, an engine, a launcher, an observer, and in `sets` a task and a safety set."""
