import Testing

@testable import Mobility

@Suite struct MECNotificationTests {
    private static let list = """
        {"notificationType":"AssocStaNotification","timeStamp":{"seconds":1700000000,"nanoSeconds":500000000},
         "apId":{"bssid":"02000000000A","ssid":["corp"],"ipAddress":["192.0.2.1"]},
         "staId":[{"macId":"020000000501"},{"macId":"02:00:00:00:05:02","ssid":["corp"]}],
         "_links":{"subscription":{"href":"http://192.0.2.9/wai/v2/subscriptions/1"}}}
        """

    @Test func readsAssociationLists() throws {
        let expected = MECNotification.associated(
            accessPoint: ["02:00:00:00:00:0a", "192.0.2.1"],
            stations: ["02:00:00:00:05:01", "02:00:00:00:05:02"],
            time: 1_700_000_000.5
        )
        #expect(try MECNotification.read(Array(Self.list.utf8)) == expected)
        let wrapped = "{\"assocStaNotification\":\(Self.list)}"
        #expect(try MECNotification.read(Array(wrapped.utf8)) == expected)
    }

    @Test func aListWithoutStationsIsEmpty() throws {
        let empty = #"{"notificationType":"AssocStaNotification","apId":{"bssid":"a"}}"#
        #expect(try MECNotification.read(Array(empty.utf8)) == .associated(accessPoint: ["a"], stations: [], time: nil))
        let single = #"{"notificationType":"AssocStaNotification","apId":{"bssid":"a"},"staId":{"macId":"x"}}"#
        #expect(
            try MECNotification.read(Array(single.utf8)) == .associated(accessPoint: ["a"], stations: ["x"], time: nil)
        )
    }

    @Test(arguments: [("ENTERING_AREA_EVENT", true), ("LEAVING_AREA_EVENT", false)])
    func readsUserLocations(_ event: String, _ enters: Bool) throws {
        let body = """
            {"userLocationEventNotification":{"address":"acr:10.0.0.1","accessPointId":"north","zoneId":"z","userLocationEvent":
            "\(event)","timeStamp":{"seconds":12,"nanoSeconds":0}}}
            """
        let expected = MECNotification.located(address: "acr:10.0.0.1", accessPoint: "north", enters: enters, time: 12)
        #expect(try MECNotification.read(Array(body.utf8)) == expected)
    }

    @Test(arguments: [
        "", "[]", "null", "{", "{\"notificationType\":\"AssocStaNotification\"}",
        "{\"notificationType\":\"AssocStaNotification\",\"apId\":{\"bssid\":\"a\"},\"timeStamp\":{\"seconds\":-5}}",
        "{\"notificationType\":\"AssocStaNotification\",\"apId\":{\"bssid\":\"a\"},\"timeStamp\":{\"seconds\":1e300}}",
        "{\"userLocationEventNotification\":{\"address\":\"a\"}}", "{\"assocStaNotification\":[]}",
    ])
    func refusesWhatIsIncomplete(_ body: String) {
        #expect(throws: (any Error).self) { try MECNotification.read(Array(body.utf8)) }
    }

    @Test func otherNotificationsAreRecognisedAsSuch() throws {
        #expect(
            try MECNotification.read(Array(#"{"notificationType":"TestNotification"}"#.utf8))
                == .other("TestNotification")
        )
    }

    /// Bytes of any kind, the same every run: a notification or an error.
    @Test func survivesRandomBytes() {
        var random = SplitMix(state: 3)
        for _ in 0..<20_000 {
            var bytes = Array(Self.list.utf8)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = try? MECNotification.read(Array(bytes.prefix(Int.random(in: 0...bytes.count * 3, using: &random))))
        }
        _ = try? MECNotification.read([UInt8](repeating: UInt8(ascii: "["), count: 1 << 20))
        let deep = Array(String(repeating: #"{"assocStaNotification":"#, count: 100_000).utf8)
        _ = try? MECNotification.read(deep)
    }
}

@Suite struct MECTranslatorTests {
    private func list(_ ap: String, _ stations: String..., at time: Double?) -> MECNotification {
        .associated(accessPoint: [ap], stations: stations, time: time)
    }

    private func brief(_ events: [RoamingEvent]?) -> [String]? {
        events?.map { "\($0.kind) \($0.station ?? "") \($0.ap[0])@\($0.time.formatted)" }
    }

    @Test func listsAreComparedWithTheOneBefore() {
        var translator = MECTranslator()
        #expect(
            brief(translator.translate(list("a", "x", "y", at: 1), received: 9)) == [
                "associated x a@1", "associated y a@1",
            ]
        )
        #expect(
            brief(translator.translate(list("a", "y", "z", at: 2), received: 9)) == [
                "disassociated x a@2", "associated z a@2",
            ]
        )
        #expect(brief(translator.translate(list("b", "x", at: nil), received: 9)) == ["associated x b@9"])
        #expect(translator.translate(list("a", "y", "z", at: 3), received: 9) == [])
        #expect(
            brief(translator.translate(list("a", at: 4), received: 9)) == [
                "disassociated y a@4", "disassociated z a@4",
            ]
        )
    }

    @Test func anOlderListIsIgnored() {
        var translator = MECTranslator()
        _ = translator.translate(list("a", "x", at: 5), received: 9)
        #expect(translator.translate(list("a", "y", at: 4), received: 9) == nil)
    }

    @Test func whatIsRememberedIsBounded() {
        var translator = MECTranslator(limit: 10)
        #expect(translator.translate(list("a", "1", "2", "3", "4", at: 1), received: 1) != nil)
        #expect(translator.translate(list("b", "1", "2", "3", "4", at: 1), received: 1) != nil)
        #expect(translator.translate(list("c", at: 1), received: 1) == nil)
        #expect(translator.remembered == 10)
        #expect(translator.translate(list("a", at: 2), received: 2) != nil)
        #expect(translator.remembered == 6)
        translator.forget(list("b", at: 2))
        #expect(translator.remembered == 1)
    }

    @Test func aRoamToldByTwoListsIsOneRecordInEitherOrder() {
        for leavesFirst in [true, false] {
            var translator = MECTranslator()
            var normalizer = RoamingNormalizer(directory: RoamingDirectory(stations: ["x": "ann"]))
            var notifications = [list("a", at: 10), list("b", "x", at: 10)]
            if !leavesFirst { notifications.reverse() }
            var events = translator.translate(list("a", "x", at: 1), received: 1) ?? []
            for notification in notifications { events += translator.translate(notification, received: 10) ?? [] }
            #expect(normalizer.run(events).map(\.brief) == ["start a@1", "roam b@10"])
        }
    }

    @Test func locationsKeepTheAddressAsStationAndName() {
        var translator = MECTranslator()
        let entering = MECNotification.located(address: "acr:ann", accessPoint: "north", enters: true, time: 5)
        let events = translator.translate(entering, received: 9) ?? []
        var normalizer = RoamingNormalizer()
        #expect(normalizer.run(events).map { "\($0.user) \($0.brief)" } == ["ann start north@5"])
    }
}

@Suite struct MobilityNoticeTests {
    @Test func theJSONIsThatOfMEC021() throws {
        let notice = MobilityNotice(
            .completed,
            time: 1_700_000_000.25,
            user: "ann",
            ipv4: "10.88.0.1",
            target: "192.0.2.2",
            targetPort: 1021
        )
        let text = String(decoding: try notice.json(subscription: "http://s/1"), as: UTF8.self)
        #expect(
            text == """
                {"_links":{"subscription":{"href":"http://s/1"}},"associateId":[{"type":1,"value":"10.88.0.1"}],\
                "mobilityStatus":2,"notificationType":"MobilityProcedureNotification","targetAppInfo":{"appInstanceId":"ann",\
                "commInterface":{"ipAddresses":[{"host":"192.0.2.2","port":1021}]}},\
                "timeStamp":{"nanoSeconds":250000000,"seconds":1700000000}}
                """
        )
        #expect(MobilityNotice.Status.allCases.map(\.rawValue) == [1, 2, 3])
        _ = try MobilityNotice(.failed, time: .infinity, user: "ann").json(subscription: "")
        _ = try MobilityNotice(.failed, time: -1, user: "ann").json(subscription: "")
    }

    @Test func targetsAreHTTPAddresses() throws {
        let plain = try #require(HTTPPoster.Target("http://192.0.2.1"))
        #expect((plain.host, plain.port, plain.path) == ("192.0.2.1", 80, "/"))
        let full = try #require(HTTPPoster.Target("https://[fd00::1]:8443/a/b?c=d"))
        #expect((full.host, full.port, full.path, full.isSecure) == ("fd00::1", 8443, "/a/b?c=d", true))
        for text in [
            "", "ftp://a", "http://", "http://a:0", "http://a:x", "http://u@a", "http://a/ b", "http://a\r\nX: y",
            "http://a#b",
        ] {
            #expect(HTTPPoster.Target(text) == nil, "\(text)")
        }
    }
}
