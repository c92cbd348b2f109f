# Rack::SSL does what config.force_ssl does in Rails: what did not come over https is redirected.
require "rack/ssl"

use Rack::SSL

run lambda { |env|
  request = Rack::Request.new(env)
  body = "#{request.url} for #{request.ip}, worker #{Process.pid}\n"
  [200, { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s }, [body]]
}
