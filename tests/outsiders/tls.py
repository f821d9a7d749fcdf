"""tls.py PORT HOST:PORT CERT KEY: a proxy as it stands in front of a node: TLS on PORT, plain bytes behind it."""

import asyncio
import ssl
import sys

port, behind, cert, key = sys.argv[1:]
host, behind_port = behind.rsplit(":", 1)


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()


async def serve(reader, writer):
    other_reader, other_writer = await asyncio.open_connection(host, int(behind_port))
    await asyncio.gather(pump(reader, other_writer), pump(other_reader, writer))


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(serve, "127.0.0.1", int(port), ssl=context)
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())
