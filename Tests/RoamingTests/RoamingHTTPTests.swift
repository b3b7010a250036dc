import Foundation
import NIOHTTP1
import Testing

@testable import Mobility

@Suite struct RoamingHTTPTests {
    /// Posts a body; gives the status, or 0 where there was no answer.
    private func post(_ body: String, to path: String, _ sources: RoamingSources, token: String? = nil) async -> Int {
        guard let target = HTTPPoster.Target("http://127.0.0.1:\(sources.listening.httpPort ?? 0)\(path)") else {
            return 0
        }
        return (try? await HTTPPoster().post(Array(body.utf8), to: target, token: token)) ?? 0
    }

    private let configuration = RoamingSourcesConfiguration(
        mec: .init(listen: "127.0.0.1:0", token: "open sesame", limit: 2000),
        stations: ["02:00:00:00:05:01": "ann", "acr:10.0.0.2": "bob"]
    )

    @Test func notificationsBecomeRecords() async throws {
        try await withSources(configuration) { sources, records in
            func list(_ ap: String, _ stations: String) -> String {
                #"{"notificationType":"AssocStaNotification","apId":{"bssid":"\#(ap)"},"staId":[\#(stations)]}"#
            }
            let token = "open sesame"
            let path = "/mec/wai/notifications"
            #expect(await post(list("a", #"{"macId":"020000000501"}"#), to: path, sources, token: token) == 204)
            #expect(await post(list("b", #"{"macId":"020000000501"}"#), to: path, sources, token: token) == 204)
            #expect(await post(list("a", ""), to: path, sources, token: token) == 204)
            let entering =
                #"{"userLocationEventNotification":{"address":"acr:10.0.0.2","accessPointId":"c","userLocationEvent":"ENTERING_AREA_EVENT"}}"#
            #expect(await post(entering, to: "/mec/location/notifications", sources, token: token) == 204)
            let seen = await records.wait { $0.count == 3 }.map { "\($0.user) \($0.kind.rawValue) \($0.ap)" }
            #expect(seen == ["ann start a", "ann roam b", "bob start c"])
        }
    }

    @Test func linesBecomeRecords() async throws {
        try await withSources(configuration) { sources, records in
            let lines = "{\"user\":\"ann\",\"ap\":\"x\",\"station\":\"02:00:00:00:05:01\"}\nnonsense\n"
            #expect(await post(lines, to: "/roam", sources, token: "open sesame") == 204)
            #expect(await records.wait { $0.count == 1 }.map(\.ap) == ["x"])
            #expect(sources.counts["lines_malformed"] == 1)
        }
    }

    @Test func whatIsNotForUsCostsAnAnswerAndACounter() async throws {
        try await withSources(configuration) { sources, records in
            let token = "open sesame"
            #expect(await post("{}", to: "/roam", sources) == 401)
            #expect(await post("{}", to: "/roam", sources, token: "open sesam") == 401)
            #expect(await post("{}", to: "/roam", sources, token: "open sesamf") == 401)
            #expect(await post("nonsense", to: "/mec/notifications", sources, token: token) == 400)
            #expect(await post("{]", to: "/roam", sources, token: token) == 400)
            #expect(await post(String(repeating: "x", count: 2001), to: "/roam", sources, token: token) == 413)
            #expect(
                await post(
                    "{\"notificationType\":\"TestNotification\"}",
                    to: "/mec/notifications",
                    sources,
                    token: token
                ) == 204
            )
            #expect(await post("{}", to: "/elsewhere", sources, token: token) == 404)
            #expect(sources.counts["http_unauthorized"] == 3)
            #expect(sources.counts["http_malformed"] == 2)
            #expect(sources.counts["http_too_large"] == 1)
            #expect(sources.counts["http_ignored"] == 1)
            #expect(records.all.isEmpty)
        }
    }

    @Test func aFullQueueAsksForRepetitionAndForgetsNothing() {
        let room = Collector<RoamingEvent>()
        let intake = HTTPIntake(counters: RoamingCounters()) { event in
            guard room.all.count < 1 else { return false }
            room.add(event)
            return true
        }
        let body = Array(
            #"{"notificationType":"AssocStaNotification","apId":{"bssid":"a"},"staId":[{"macId":"x"},{"macId":"y"}]}"#
                .utf8
        )
        #expect(intake.notification(body, now: 1) == .full)
        #expect(intake.notification(body, now: 2) == .full)
        #expect(room.all.count == 1)
    }
}

@Suite struct MobilityNotifierTests {
    private func settings(attempts: Int = 6, queue: Int = 256) -> MobilityNotifier.Settings {
        var settings = MobilityNotifier.Settings()
        settings.attempts = attempts
        settings.queueLimit = queue
        settings.firstPause = .milliseconds(5)
        return settings
    }

    private func withNotifier(
        _ subscribers: [MobilityNotifier.Subscriber],
        _ settings: MobilityNotifier.Settings,
        _ body: (MobilityNotifier, RoamingCounters) async throws -> Void
    ) async throws {
        let counters = RoamingCounters()
        let notifier = MobilityNotifier(subscribers: subscribers, settings: settings, counters: counters, log: .silent)
        let task = Task { await notifier.run() }
        try await body(notifier, counters)
        task.cancel()
        await task.value
    }

    @Test func subscribersAreToldInOrderAndAgainAfterFailures() async throws {
        let subscriber = try await Subscriber.start(statuses: [.serviceUnavailable, .internalServerError])
        let url = "http://127.0.0.1:\(subscriber.port)/amsi/callback"
        try await withNotifier([try .init(url: url, token: "t")], settings()) { notifier, counters in
            notifier.notify(MobilityNotice(.triggered, time: 1, user: "ann"))
            notifier.notify(MobilityNotice(.completed, time: 2, user: "ann"))
            let bodies = await subscriber.bodies.wait { $0.count == 2 }.map { String(decoding: $0, as: UTF8.self) }
            #expect(bodies.count == 2)
            #expect(bodies.first?.contains(#""mobilityStatus":1"#) == true)
            #expect(bodies.last?.contains(#""mobilityStatus":2"#) == true)
            #expect(counters.snapshot[.noticesRetried] == 2)
            #expect(subscriber.heads.all.first?.headers["authorization"] == ["Bearer t"])
            #expect(subscriber.heads.all.first?.uri == "/amsi/callback")
        }
        await subscriber.stop()
    }

    @Test func refusalsAndDeadSubscribersAreGivenUp() async throws {
        let refusing = try await Subscriber.start(statuses: [.gone])
        let dead = try await Subscriber.start()
        await dead.stop()
        let subscribers = try [refusing.port, dead.port].map {
            try MobilityNotifier.Subscriber(url: "http://127.0.0.1:\($0)/")
        }
        try await withNotifier(subscribers, settings(attempts: 3)) { notifier, counters in
            notifier.notify(MobilityNotice(.failed, time: 1, user: "ann"))
            let end = ContinuousClock.now.advanced(by: .seconds(20))
            while counters.snapshot[.noticesDropped] < 2, ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(10))
            }
            #expect(counters.snapshot[.noticesDropped] == 2)
            #expect(counters.snapshot[.noticesRetried] == 2)
            #expect(counters.snapshot[.noticesSent] == 0)
        }
        await refusing.stop()
    }

    @Test func theQueueIsBounded() async throws {
        let counters = RoamingCounters()
        let subscriber = try MobilityNotifier.Subscriber(url: "http://127.0.0.1:9/")
        let notifier = MobilityNotifier(
            subscribers: [subscriber],
            settings: settings(queue: 10),
            counters: counters,
            log: .silent
        )
        for round in 0..<1000 { notifier.notify(MobilityNotice(.triggered, time: Double(round), user: "ann")) }
        #expect(counters.snapshot[.noticesDropped] == 990)
    }
}
