"""The HTTP application: routes, bodies, problem details, middleware, the page."""
