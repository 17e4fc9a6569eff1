"""Long work: a row plus a child process. A restart resumes it; speech goes on being served meanwhile."""
