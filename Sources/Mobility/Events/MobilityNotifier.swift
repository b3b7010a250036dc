/// Tells subscribers of our hand-offs: a bounded queue for each, repeated with growing pauses, in order, never in the way.
package final class MobilityNotifier: Sendable {
    /// Who wants to know.
    package struct Subscriber: Sendable, Hashable {
        /// The callback address as configured.
        package var url: String
        /// A bearer token to send along.
        package var token: String?
        let target: HTTPPoster.Target

        /// Throws `RoamingError` for what is no HTTP address.
        package init(url: String, token: String? = nil) throws(RoamingError) {
            guard let target = HTTPPoster.Target(url) else {
                throw RoamingError(
                    .configuration,
                    cause: "mec.subscribers: '\(url)' is no HTTP address",
                    remedy: "write for example http://192.0.2.7:8080/amsi/callback"
                )
            }
            self.url = url
            self.token = token
            self.target = target
        }
    }

    /// Limits and pauses.
    package struct Settings: Sendable, Hashable {
        /// Most notices that wait for a subscriber; over it the oldest are dropped.
        package var queueLimit = 256
        /// Times that a notice is sent before it is dropped.
        package var attempts = 6
        /// Pause before the second attempt, doubled for each further one.
        package var firstPause: Duration = .milliseconds(250)

        package init() {}
    }

    private let poster: HTTPPoster
    private let settings: Settings
    private let counters: RoamingCounters
    private let log: RateLimitedLog
    private let queues: [(subscriber: Subscriber, stream: AsyncStream<MobilityNotice>)]
    private let inputs: [AsyncStream<MobilityNotice>.Continuation]

    package init(
        subscribers: [Subscriber],
        poster: HTTPPoster = HTTPPoster(),
        settings: Settings = Settings(),
        counters: RoamingCounters,
        log: RateLimitedLog
    ) {
        self.poster = poster
        self.settings = settings
        self.counters = counters
        self.log = log
        let limit = max(1, settings.queueLimit)
        let made = subscribers.map {
            ($0, AsyncStream.makeStream(of: MobilityNotice.self, bufferingPolicy: .bufferingNewest(limit)))
        }
        queues = made.map { ($0, $1.stream) }
        inputs = made.map { $1.continuation }
    }

    /// Queues a notice for every subscriber; returns at once.
    package func notify(_ notice: MobilityNotice) {
        for input in inputs {
            if case .dropped = input.yield(notice) { counters.add(.noticesDropped) }
        }
    }

    /// Delivers until the task is cancelled.
    package func run() async {
        await withTaskGroup(of: Void.self) { group in
            for (subscriber, stream) in queues {
                group.addTask {
                    for await notice in stream { await self.deliver(notice, to: subscriber) }
                }
            }
        }
    }

    private func deliver(_ notice: MobilityNotice, to subscriber: Subscriber) async {
        guard let body = try? notice.json(subscription: subscriber.url) else {
            counters.add(.noticesDropped)
            return
        }
        var pause = settings.firstPause
        for attempt in 1...max(1, settings.attempts) {
            guard !Task.isCancelled else { return }
            let problem: String
            do {
                let status = try await poster.post(body, to: subscriber.target, token: subscriber.token)
                if (200..<300).contains(status) {
                    counters.add(.noticesSent)
                    return
                }
                problem = "status \(status)"
                // The subscriber does not want it: it will not want it later.
                if (400..<500).contains(status), status != 408, status != 429 { return drop(subscriber, problem) }
            } catch {
                problem = "\(error)"
            }
            guard attempt < settings.attempts else { return drop(subscriber, problem) }
            counters.add(.noticesRetried)
            try? await Task.sleep(for: pause)
            pause *= 2
        }
    }

    private func drop(_ subscriber: Subscriber, _ problem: String) {
        counters.add(.noticesDropped)
        log.warning(
            "a subscriber was not told of a hand-off",
            .noticesDropped,
            ["url": "\(subscriber.url)", "error": "\(problem)"]
        )
    }
}
