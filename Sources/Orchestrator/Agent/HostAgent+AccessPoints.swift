extension HostAgent {
    /// The access points of the cluster.
    package func accessPoints() async throws -> [AccessPointView] {
        try await around.store.records(AccessPointRecord.self, prefix: AccessPointRecord.prefix).map {
            AccessPointView($0.record)
        }
    }

    /// Adds access points, or changes those of the same name; their hosts must be in the cluster.
    package func importAccessPoints(_ views: [AccessPointView]) async throws {
        let hosts = try await around.store.records(HostRecord.self, prefix: HostRecord.prefix).map(\.record.name)
        for view in views {
            try Self.check(view.ap)
            guard hosts.contains(view.host) else {
                throw OrchestratorError(
                    .hostUnknown,
                    cause: "access point \(view.ap) names host \(view.host), which is not in this cluster",
                    remedy:
                        "name one of `smirun host ls` in the column host, or let the host join first; nothing was imported"
                )
            }
        }
        try await checkFrames(views)
        for view in views {
            try await around.store.write(AccessPointRecord.key(view.ap), AccessPointRecord(view), expect: .any)
        }
    }

    private static func check(_ name: String) throws {
        let isPlain = name.unicodeScalars.allSatisfy {
            !$0.properties.isWhitespace && $0.value >= 32 && $0.value != 127
        }
        guard (1...128).contains(name.utf8.count), isPlain else {
            throw OrchestratorError(
                .badArgument,
                cause: "'\(name)' cannot be the name of an access point",
                remedy: "use at most 128 bytes without spaces; nothing was imported"
            )
        }
    }

    /// Metres have an origin that nobody knows here: they cannot stand beside positions on the earth.
    private func checkFrames(_ views: [AccessPointView]) async throws {
        let names = Set(views.map(\.ap))
        let kept = try await accessPoints().filter { !names.contains($0.ap) }
        let all = views + kept
        guard let metric = all.first(where: { $0.x != nil }), let geodetic = all.first(where: { $0.lat != nil }) else {
            return
        }
        throw OrchestratorError(
            .badArgument,
            cause: "\(metric.ap) is placed in metres and \(geodetic.ap) in degrees, which cannot be put on one map",
            remedy: "give all access points of the cluster in the same way; nothing was imported"
        )
    }
}

extension AccessPointView {
    /// A record as it is shown.
    init(_ record: AccessPointRecord) {
        self.init(
            ap: record.name,
            host: record.host,
            x: record.x,
            y: record.y,
            lat: record.latitude,
            lon: record.longitude,
            zone: record.zone
        )
    }
}

extension AccessPointRecord {
    /// The record of what was given.
    init(_ view: AccessPointView) {
        self.init(
            name: view.ap,
            host: view.host,
            x: view.x,
            y: view.y,
            latitude: view.lat,
            longitude: view.lon,
            zone: view.zone
        )
    }
}
