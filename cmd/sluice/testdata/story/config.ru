# The application of the story: it insists on https, except for the page that load balancers ask
# for, and answers with what it believes of the request.
require "json"
require "rack/ssl"

STATUS_PAGE = "/status"

use Rack::SSL, exclude: ->(env) { env["PATH_INFO"] == STATUS_PAGE }

run lambda { |env|
  request = Rack::Request.new(env)
  sleep(request.params.fetch("delay", 0).to_f)
  forwarded = env.select { |name, _| name.start_with?("HTTP_X_FORWARDED_") }
  body = JSON.generate(
    machine: ENV.fetch("MACHINE"), worker: Process.pid,
    host: request.host, scheme: request.scheme, port: request.port,
    forwarded: forwarded.transform_keys { |name| name.delete_prefix("HTTP_X_FORWARDED_").downcase }
  )
  [200, { "Content-Type" => "application/json", "Content-Length" => body.bytesize.to_s }, [body]]
}
