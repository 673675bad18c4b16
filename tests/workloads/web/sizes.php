<?php
// GET /…/size/N answers N bytes, POST what it got, else 404.
header('Content-Type: text/plain');
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    echo file_get_contents('php://input');
} elseif (preg_match('#/size/(\d+)$#', $_SERVER['REQUEST_URI'], $found)) {
    echo str_repeat('x', (int) $found[1]);
} else {
    http_response_code(404);
    echo "nothing here\n";
}
