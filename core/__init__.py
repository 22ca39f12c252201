"""One speech recogniser in every size: prepares speech, trains, searches and evaluates a pruning supernet."""
