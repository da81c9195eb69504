module argotun/bench/cables

go 1.26.0
