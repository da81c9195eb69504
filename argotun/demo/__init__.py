"""`--mode demo`: a stand-in Kubernetes API, and a guided run of a deployment through the tunnel."""
