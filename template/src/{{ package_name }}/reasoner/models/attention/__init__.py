"""Window attention: the equations, and the forms that compute it."""
