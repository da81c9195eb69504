"""What a customer allows: a request as kube-apiserver sees it, rules over that, their file."""
