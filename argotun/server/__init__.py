"""The role beside Argo CD: turns requests for a cluster into streams of its tunnel."""
