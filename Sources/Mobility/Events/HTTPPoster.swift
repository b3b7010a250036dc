import NIOCore
import NIOHTTP1
import NIOPosix

/// Posts a body to a URL over HTTP/1.1, one connection each: notifications are few and subscribers may be gone.
package struct HTTPPoster: Sendable {
    /// Where to post to.
    package struct Target: Sendable, Hashable {
        package var isSecure: Bool
        package var host: String
        package var port: Int
        package var path: String

        /// Reads `http://HOST[:PORT][/PATH]` or `https://…`; nil for anything else, user names and fragments included.
        package init?(_ url: String) {
            let rest: Substring
            if url.lowercased().hasPrefix("http://") {
                (isSecure, rest) = (false, url.dropFirst(7))
            } else if url.lowercased().hasPrefix("https://") {
                (isSecure, rest) = (true, url.dropFirst(8))
            } else {
                return nil
            }
            guard rest.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }), !rest.contains("#") else { return nil }
            let authority = rest.prefix { $0 != "/" && $0 != "?" }
            guard !authority.contains("@") else { return nil }
            let remainder = rest[authority.endIndex...]
            path = remainder.hasPrefix("/") ? String(remainder) : "/" + remainder
            var name = authority
            port = isSecure ? 443 : 80
            if let colon = authority.lastIndex(of: ":"), !authority[colon...].contains("]") {
                guard let number = Int(authority[authority.index(after: colon)...]), (1...65_535).contains(number)
                else {
                    return nil
                }
                (port, name) = (number, authority[..<colon])
            }
            if name.hasPrefix("["), name.hasSuffix("]") { name = name.dropFirst().dropLast() }
            guard !name.isEmpty else { return nil }
            host = String(name)
        }
    }

    /// Adds TLS to a connection to a host; called first in its pipeline.
    ///
    /// `Mobility` brings no TLS library itself.
    package typealias TLS = @Sendable (any Channel, _ host: String) throws -> Void

    private let group: any EventLoopGroup
    private let timeout: TimeAmount
    private let tls: TLS?

    package init(
        group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton,
        timeout: TimeAmount = .seconds(5),
        tls: TLS? = nil
    ) {
        self.group = group
        self.timeout = timeout
        self.tls = tls
    }

    /// Posts JSON and returns the status.
    ///
    /// Throws where there is no connection, no answer in time, or no TLS.
    package func post(_ body: [UInt8], to target: Target, token: String?) async throws -> Int {
        if target.isSecure, tls == nil {
            throw RoamingError(
                .delivery,
                cause: "https://\(target.host) needs TLS, which is not set up for notifications",
                remedy: "use an http:// address on a private network"
            )
        }
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: target.path)
        head.headers.add(name: "Host", value: ListenAddress(host: target.host, port: target.port).description)
        head.headers.add(name: "Content-Type", value: "application/json")
        head.headers.add(name: "Content-Length", value: String(body.count))
        head.headers.add(name: "Connection", value: "close")
        if let token { head.headers.add(name: "Authorization", value: "Bearer \(token)") }
        let request = head
        let loop = group.next()
        let status = loop.makePromise(of: Int.self)
        let channel: any Channel
        do {
            channel = try await ClientBootstrap(group: loop)
                .connectTimeout(timeout)
                .channelInitializer { [tls] channel in
                    channel.eventLoop.makeCompletedFuture {
                        if target.isSecure { try tls?(channel, target.host) }
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(ResponseHandler(request, body, status))
                    }
                }
                .connect(host: target.host, port: target.port).get()
        } catch {
            status.fail(error)
            throw error
        }
        let deadline = loop.scheduleTask(in: timeout) { channel.close(promise: nil) }
        defer { deadline.cancel() }
        return try await withTaskCancellationHandler {
            try await status.futureResult.get()
        } onCancel: {
            channel.close(promise: nil)
        }
    }
}

/// Sends the request when the connection stands; the first head that is no 1xx settles it.
private final class ResponseHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private let head: HTTPRequestHead
    private let body: [UInt8]
    private let status: EventLoopPromise<Int>
    private var isSettled = false

    init(_ head: HTTPRequestHead, _ body: [UInt8], _ status: EventLoopPromise<Int>) {
        self.head = head
        self.body = body
        self.status = status
    }

    func channelActive(context: ChannelHandlerContext) {
        let buffer = context.channel.allocator.buffer(bytes: body)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data), head.status.code >= 200 else { return }
        settle(.success(Int(head.status.code)))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        settle(.failure(ChannelError.eof))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        settle(.failure(error))
        context.close(promise: nil)
    }

    private func settle(_ result: Result<Int, any Error>) {
        guard !isSettled else { return }
        isSettled = true
        status.completeWith(result)
    }
}
