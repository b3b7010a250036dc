import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import Synchronization

/// The HTTP face of the event sources: MEC 028 and MEC 013 callbacks, and lines.
///
/// - `POST /mec/notifications` (and `/mec/wai/notifications`, `/mec/location/notifications`): one notification
/// - `POST /roam`: JSON lines or CSV
package struct RoamingHTTP: Sendable {
    /// Who may post, and how much.
    package struct Settings: Sendable, Hashable {
        /// The bearer token that posters must show; nil where the caller has other means, such as mutual TLS.
        package var token: String?
        /// Most bytes of a body.
        package var bodyLimit = 1 << 20
        /// Most connections at a time.
        package var connectionLimit = 256
        /// Seconds after which an idle connection is closed.
        package var idleSeconds = 30

        package init() {}
    }

    private let settings: Settings
    private let counters: RoamingCounters
    private let log: RateLimitedLog
    private let intake: HTTPIntake

    /// `offer` takes an event or refuses it.
    package init(
        settings: Settings,
        counters: RoamingCounters,
        log: RateLimitedLog,
        offer: @escaping @Sendable (RoamingEvent) -> Bool
    ) {
        self.settings = settings
        self.counters = counters
        self.log = log
        self.intake = HTTPIntake(counters: counters, offer: offer)
    }

    /// Adds the routes to a router, also one of the caller's.
    package func addRoutes(to router: some RouterMethods<BasicRequestContext>) {
        for path in ["/mec/notifications", "/mec/wai/notifications", "/mec/location/notifications"] {
            router.post(RouterPath(path)) { request, _ in
                await self.handle(request) { self.intake.notification($0, now: WallClock.now) }
            }
        }
        router.post("/roam") { request, _ in
            await self.handle(request) { self.intake.lines($0, now: WallClock.now) }
        }
    }

    /// Serves the routes until the task is cancelled; `onListening` gets the address once the socket is open.
    package func run(
        listen: ListenAddress,
        logger: Logger,
        onListening: @escaping @Sendable (SocketAddress?) -> Void = { _ in }
    ) async throws {
        let router = Router(context: BasicRequestContext.self)
        addRoutes(to: router)
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let application = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    idleTimeout: .seconds(Int64(settings.idleSeconds)),
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: 8192,
                        maxHeaderListSize: 16_384,
                        maxHeaderFieldCount: 64
                    )
                )
            ),
            configuration: ApplicationConfiguration(
                address: .hostname(listen.host, port: listen.port),
                availableConnectionsDelegate: MaximumAvailableConnections(settings.connectionLimit)
            ),
            onServerRunning: { onListening($0.localAddress) },
            logger: quiet
        )
        do {
            try await application.run()
        } catch let error as IOError {
            throw RoamingError(
                .listen,
                cause: "cannot listen for MEC notifications on \(listen): \(error)",
                remedy: "choose another address in [mec] listen, or stop the server that has it"
            )
        }
    }

    private func handle(_ request: Request, _ take: ([UInt8]) -> HTTPIntake.Outcome) async -> Response {
        guard isAllowed(request) else {
            return answer(.unauthorized, .httpUnauthorized, "missing or wrong token")
        }
        if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > settings.bodyLimit {
            return answer(.contentTooLarge, .httpTooLarge, "body over the limit")
        }
        let body: ByteBuffer
        do {
            body = try await request.body.collect(upTo: settings.bodyLimit)
        } catch {
            return answer(.contentTooLarge, .httpTooLarge, "body over the limit, or broken off")
        }
        switch take(Array(body.readableBytesView)) {
        case .taken(let counter):
            counters.add(counter)
            return Response(status: .noContent)
        case .malformed(let reason):
            return answer(.badRequest, .httpMalformed, reason)
        case .full:
            var response = answer(.serviceUnavailable, .httpOverload, "too many events waiting")
            response.headers[.retryAfter] = "1"
            return response
        }
    }

    private func answer(_ status: HTTPResponse.Status, _ counter: RoamingCounter, _ reason: String) -> Response {
        counters.add(counter)
        log.warning("refused an HTTP notification", counter, ["status": "\(status.code)", "reason": "\(reason)"])
        return Response(
            status: status,
            headers: [.contentType: "text/plain"],
            body: ResponseBody(byteBuffer: ByteBuffer(string: reason + "\n"))
        )
    }

    /// Compares every byte of the token whatever the first difference.
    private func isAllowed(_ request: Request) -> Bool {
        guard let token = settings.token else { return true }
        let expected = Array("Bearer \(token)".utf8)
        let shown = Array((request.headers[.authorization] ?? "").utf8)
        guard shown.count == expected.count else { return false }
        return zip(shown, expected).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}

/// Bodies to events, with the lists of stations that MEC 028 notifications are compared with.
package final class HTTPIntake: Sendable {
    /// What became of a body.
    package enum Outcome: Sendable, Hashable {
        /// Taken, or understood and of no use: count as this.
        case taken(RoamingCounter)
        /// Not understood.
        case malformed(String)
        /// No room: the poster should repeat it.
        case full
    }

    private let translator = Mutex(MECTranslator())
    private let counters: RoamingCounters
    private let offer: @Sendable (RoamingEvent) -> Bool

    package init(counters: RoamingCounters, offer: @escaping @Sendable (RoamingEvent) -> Bool) {
        self.counters = counters
        self.offer = offer
    }

    /// A MEC notification.
    package func notification(_ body: [UInt8], now: Double) -> Outcome {
        let notification: MECNotification
        do {
            notification = try MECNotification.read(body)
        } catch MECNotification.Defect.missing(let member) {
            return .malformed("no usable \(member)")
        } catch {
            return .malformed("not a notification")
        }
        if case .other = notification { return .taken(.httpIgnored) }
        return translator.withLock { translator in
            guard let events = translator.translate(notification, received: now) else { return .taken(.httpIgnored) }
            guard events.allSatisfy(offer) else {
                translator.forget(notification)
                return .full
            }
            return .taken(.httpAccepted)
        }
    }

    /// JSON lines or CSV.
    ///
    /// Lines that are none are counted and skipped; a body of nothing else is refused.
    package func lines(_ body: [UInt8], now: Double) -> Outcome {
        var parser = RoamLineParser()
        var taken = 0
        for line in body.split(separator: 0x0a) {
            guard let line = parser.parse(line) else { continue }
            guard offer(line.event(received: now)) else { return .full }
            taken += 1
        }
        counters.add(.linesMalformed, parser.malformed)
        guard taken > 0 || parser.malformed == 0 else { return .malformed("no line could be read") }
        return .taken(.httpAccepted)
    }
}
