make tidy
