"""The HTTP application: routes, request and response bodies, middleware, and the web page."""
