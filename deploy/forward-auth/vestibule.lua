-- HAProxy asks Vestibule about a request, and does what the answer says. Loaded by haproxy.cfg beside it:
--
--     http-request lua.vestibule URL NAMES
--
-- URL is where the question goes, NAMES are the identity headers, with commas between them. Where there is no answer,
-- nobody passes: haproxy.cfg lets on only what txn.vestibule_passes says "yes" of.

-- What concerns a connection, or a body that is not sent along.
local NOT_ASKED = {
    ["host"] = true, ["connection"] = true, ["upgrade"] = true, ["content-length"] = true, ["transfer-encoding"] = true,
    ["keep-alive"] = true, ["te"] = true, ["trailer"] = true, ["expect"] = true, ["http2-settings"] = true,
    ["accept-encoding"] = true, ["x-forwarded-method"] = true, ["x-forwarded-proto"] = true,
    ["x-forwarded-host"] = true, ["x-forwarded-uri"] = true, ["x-forwarded-for"] = true,
}
local NOT_ANSWERED = { ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["date"] = true }
-- The most that a session takes.
local COOKIES = 3

-- As many applications read a name: a dash for whatever is no letter and no digit.
local function folded(name)
    return (name:lower():gsub("[^%w]", "-"))
end

local function each(values, use)
    local index = values[0] and 0 or 1
    while values[index] do
        use(values[index])
        index = index + 1
    end
end

local function question(txn)
    local headers = {}
    for name, values in pairs(txn.http:req_get_headers()) do
        if not NOT_ASKED[name:lower()] then
            local list = {}
            each(values, function(value) list[#list + 1] = value end)
            headers[name] = list
        end
    end
    local scheme = "http"
    if txn.f:ssl_fc() == 1 then scheme = "https" end
    headers["x-forwarded-method"] = { txn.f:method() }
    headers["x-forwarded-proto"] = { scheme }
    headers["x-forwarded-host"] = { txn.f:req_fhdr("host") or "" }
    headers["x-forwarded-uri"] = { txn.f:pathq() or "" }
    headers["x-forwarded-for"] = { tostring(txn.f:src()) }
    return headers
end

local function refuse(txn, status, answer)
    local reply = txn:reply({ status = status })
    for name, values in pairs(answer.headers or {}) do
        if not NOT_ANSWERED[name:lower()] then
            each(values, function(value) reply:add_header(name, value) end)
        end
    end
    reply:set_body(answer.body or "")
    txn:done(reply)
end

-- Whatever the client wrote goes, in every spelling; what the answer says comes.
local function pass(txn, answer, names)
    local ours = { ["authorization"] = true, ["cookie"] = true }
    for name in names:gmatch("[^,%s]+") do
        ours[folded(name)] = true
    end
    for name in pairs(txn.http:req_get_headers()) do
        if ours[folded(name)] then txn.http:req_del_header(name) end
    end
    local cookies = 0
    for name, values in pairs(answer.headers or {}) do
        local plain = name:lower()
        if ours[plain] then
            each(values, function(value) txn.http:req_add_header(name, value) end)
        elseif plain == "set-cookie" then
            each(values, function(value)
                cookies = cookies + 1
                if cookies <= COOKIES then txn:set_var("txn.vestibule_cookie_" .. cookies, value) end
            end)
        end
    end
    -- Last: before this, nothing passes.
    txn:set_var("txn.vestibule_passes", "yes")
end

core.register_action("vestibule", { "http-req" }, function(txn, url, names)
    local asked, answer = pcall(function()
        return core.httpclient():get({ url = url, headers = question(txn), timeout = 15000 })
    end)
    if not asked or not answer then
        return refuse(txn, 503, {})
    end
    local status = tonumber(answer.status) or 0
    if status == 200 then
        return pass(txn, answer, names)
    elseif status < 300 or status > 599 then
        return refuse(txn, 503, {})
    end
    refuse(txn, status, answer)
end, 2)
