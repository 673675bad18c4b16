# GET /…/size/N answers N bytes, POST what it got, else 404.
run(lambda do |env|
  size = env["PATH_INFO"][%r{/size/(\d+)\z}, 1]
  status, body = 404, "nothing here\n"
  if env["REQUEST_METHOD"] == "POST"
    status, body = 200, env["rack.input"].read
  elsif size
    status, body = 200, "x" * size.to_i
  end
  [status, { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s }, [body]]
end)
