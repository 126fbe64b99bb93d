"""Events from the backend: fetched, kept for good by their ids, done once by the jobs that calls of the API are done by, acknowledged."""
