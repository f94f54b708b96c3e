"""The routes: each module a resource, each function a route."""
