module argotun/bench/argocd/standin

go 1.26.0
