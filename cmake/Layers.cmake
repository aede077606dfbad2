# The folders of src/, lowest first. tools/tidy checks the include directions.
set(RIDGE_LAYERS
  base
  tensor
  format
  backend
  communicator
  text
  sampling
  kvcache
  model
  engine
  planner
  platform
  api
  server
  loadgen
  cli)
